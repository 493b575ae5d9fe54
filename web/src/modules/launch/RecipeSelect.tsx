import { useQuery } from "@tanstack/react-query";
import { Select } from "antd";
import { api, take } from "../../api/client";
import { useT } from "../../app/i18n";

/** The recipes that come with Finery and the user's own. */
export function useRecipes() {
  return useQuery({ queryKey: ["recipes"], queryFn: () => take(api.GET("/api/recipes")) });
}

export function RecipeSelect({ value, choose }: { value: string | null; choose: (name: string) => void }) {
  const t = useT();
  const recipes = useRecipes();
  const found = recipes.data?.recipes ?? [];
  const group = (label: string, isOwn: boolean) => ({
    label,
    title: label,
    options: found
      .filter((recipe) => recipe.is_own === isOwn && recipe.problem === "")
      .map((recipe) => ({ value: recipe.name, label: recipe.name })),
  });
  return (
    <Select
      aria-label={t("launch.recipe")}
      data-testid="launch-recipe"
      placeholder={t("launch.recipe")}
      value={value}
      loading={recipes.isLoading}
      style={{ width: 220 }}
      popupMatchSelectWidth={420}
      listHeight={460}
      onChange={(name: string | null) => name !== null && choose(name)}
      options={[group(t("launch.shipped"), false), group(t("launch.own"), true)].filter((part) => part.options.length > 0)}
      optionRender={({ value: name }) => {
        const recipe = found.find((one) => one.name === name);
        return (
          <div className="schema-option" data-testid={`recipe-${String(name)}`}>
            <span>{name} <span className="quiet">{recipe?.algorithm ?? recipe?.kind}</span></span>
            {recipe?.description && <small>{recipe.description}</small>}
          </div>
        );
      }}
    />
  );
}
